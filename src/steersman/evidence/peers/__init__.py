"""Rivals on our logs: methods without a world model, written here, and the world models of other packages, adapted.

    policy, descending, hindsight, networks, quasimetrics  what the methods are made of
    gcbc, gciql, hiql, qrl  the methods: `train(log, config, seconds, seed)` -> `Trained`, which is the policy
    windowed  what the packages have in common; their models as boxes of ours
    lightly, stable_worldmodel, torch_world  the packages: `train(log, config, seconds, seed)` -> `TrainedModel`
    our_planner, acting, walled_room  our planner on theirs; policies in our protocols; lightly's own room
    table  all of them by name
"""
