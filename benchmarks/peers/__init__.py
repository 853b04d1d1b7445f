"""Other packages, used through their public interfaces with their published settings. All of them are extras."""
