"""Rivals on our logs: methods without a world model, written here, and the world models of other packages, adapted.

    policy, descending, hindsight, networks, quasimetrics   what the methods are made of
    policy, descending, hindsight, networks, quasimetrics  what the methods are made of
    windowed  what the packages have in common; as boxes of ours
    lightly, stable_worldmodel, torch_world  the packages: `train(…)` -> `TrainedModel`
    our_planner, acting, walled_room  our planner on theirs; in our protocols; lightly's own room
    table  all of them by name
"""
