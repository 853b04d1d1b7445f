"""What tree search stands on: the trees of many problems, which choice is tried next, how they grow.

`kernels` are the loops over a tree, which run compiled or as plain Python; `tree` holds what they work on, `rules` what
PUCT and Gumbel MuZero look up. `growth` grows trees for any world model, a call a simulation; `closed` is the whole
search in one compiled call, where model and energy have a closed form.
"""
