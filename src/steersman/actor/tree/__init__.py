"""What tree search stands on: the trees of many problems, which choice is tried next, how they grow.

`tree` says what a tree can do; `arrays` is the plain form, `compiled` the one over `kernels`. `growth` grows trees for
any world model, a call a simulation; `closed` is the whole search in one compiled call, where model and energy have a
closed form. `rules` are PUCT and Gumbel MuZero.
"""
