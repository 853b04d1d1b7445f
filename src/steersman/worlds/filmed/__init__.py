"""Other people's worlds seen through a camera: Gymnasium, Push-T, MiniGrid and dm-control, in pixels."""
