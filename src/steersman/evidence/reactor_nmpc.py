"""The reactor as a model of do-mpc (extra `reactor`): its simulator, and its controller that knows the true equations.

Knows what the plant's conditions are called and how they vary, not what they are at the moment: its Kalman filter
estimates them. Shapes: E episodes.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steersman.core import UsageError
from steersman.evidence.reactor_trials import HORIZON, MOVE
from steersman.worlds import reactor
from steersman.worlds.reactor import LIMIT, SCALE, WARMTH

_SOFT = 1e2  # price of a degree above the limit: as in do-mpc's published example


def do_mpc() -> Any:
    """The package.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import do_mpc as package  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise UsageError("do-mpc", f"{error}", "install steersman[reactor]") from error
    return package


def model(conditions: str) -> Any:
    """The reactor's equations. conditions: "_p" parameters, given from outside, or "_x" states that stay as they are.

    With parameters the set-point "target" is a time-varying parameter; with states, the columns are measured.
    """
    import casadi

    made = do_mpc().model.Model("continuous", "SX")
    educt, product, hot, jacket = (made.set_variable("_x", name) for name in reactor.COLUMNS)
    flow, heat = (made.set_variable("_u", name) for name in reactor.ACTIONS)
    alpha, beta, feed, warm = (made.set_variable(conditions, name) for name in reactor.CONDITIONS)
    k2 = 1.287e12 * casadi.exp(-9758.3 / (hot + 273.15))
    k1 = beta * k2
    k3 = 9.043e9 * casadi.exp(-8560.0 * alpha / (hot + 273.15))
    capacity, wall = 0.9342 * 3.01, 4032.0 * 0.215 * (jacket - hot)
    made.set_rhs("C_a", flow * (feed - educt) - k1 * educt - k3 * educt**2)
    made.set_rhs("C_b", -flow * product + k1 * educt - k2 * product)
    made.set_rhs("T_R", -(4.2 * k1 * educt - 11.0 * k2 * product - 41.85 * k3 * educt**2) / capacity
                 + flow * (warm - hot) + wall / (capacity * 10.01))
    made.set_rhs("T_K", (heat - wall) / 10.0)
    if conditions == "_p":
        made.set_variable("_tvp", "target")
    else:
        for name in reactor.CONDITIONS:
            made.set_rhs(name, casadi.SX(0))
        for name, column in zip(reactor.COLUMNS, (educt, product, hot, jacket), strict=True):
            made.set_meas(f"measured_{name}", column, meas_noise=True)
    made.setup()
    return made


def replay(start: Tensor, inputs: Tensor, conditions: Tensor) -> Tensor:
    """do-mpc's simulator: start (4,), inputs (T, 2), conditions (T, 4) -> states (T, 4)."""
    simulator = do_mpc().simulator.Simulator(model("_p"))
    simulator.set_param(integration_tool="cvodes", abstol=1e-10, reltol=1e-10, t_step=reactor.PERIOD)
    parameters, varying = simulator.get_p_template(), simulator.get_tvp_template()
    varying["target"] = 0.0
    simulator.set_p_fun(lambda now: parameters)
    simulator.set_tvp_fun(lambda now: varying)
    simulator.setup()
    simulator.x0 = start.numpy()
    states = []
    for now, condition in zip(inputs.double().numpy(), conditions.tolist(), strict=False):  # time is sequential
        for name, value in zip(reactor.CONDITIONS, condition, strict=True):
            parameters[name] = value
        states.append(simulator.make_step(now[:, None])[:, 0])
    return torch.from_numpy(np.stack(states))


class NMPC:
    """do-mpc's nonlinear model predictive controller with do-mpc's extended Kalman filter, one plant at a time.

    The equations are the plant's own. The filter estimates the four columns and the four conditions (random walks that
    renew themselves every 80 periods), so no steady error is left; a controller without it had 2.8 times the error.
    Objective, horizon and limit are those of our agent: ((C_b - target) / 0.1)² + ((T_R - 140) / 20)² and the moves of
    both inputs, T_R <= LIMIT as a soft constraint, as in the published example.
    """

    def __init__(self) -> None:
        self._package = do_mpc()
        self.ms: list[float] = []
        self._spread = (np.array(reactor.MOST) - np.array(reactor.LEAST)) / 12**0.5
        self._controllers: list[tuple[Any, Any]] = []

    def reset(self, episodes: int) -> None:
        while len(self._controllers) < episodes:
            self._controllers.append((self._controller(), self._filter()))
        self.ms = []
        first = np.concatenate([reactor.START, reactor.NOMINAL])[:, None]
        for control, estimator in self._controllers[:episodes]:
            estimator.x0 = first
            estimator.P0 = np.diag(np.concatenate([np.array(reactor.NOISE) ** 2, self._spread**2]))
            estimator.set_initial_guess()
            control.reset_history()
            control.x0 = first[:4]
            control.set_initial_guess()

    def act(self, measured: Tensor, target: Tensor, executed: Tensor | None) -> Tensor:
        return torch.stack([
            self._one(i, measured[i].numpy(), float(target[i]), None if executed is None else executed[i].numpy())
            for i in range(len(measured))
        ])

    def _one(self, index: int, measured: Any, target: float, executed: Any) -> Tensor:
        control, estimator = self._controllers[index]
        started = time.perf_counter()
        state = np.concatenate([measured, reactor.NOMINAL])
        if executed is not None:
            walk = np.diag(np.concatenate([[2e-4, 2e-4, 2e-2, 2e-2], 2 * self._spread**2 / (80 * reactor.PERIOD)]))
            noise = np.diag(np.array(reactor.NOISE) ** 2)
            state = estimator.make_step(measured[:, None], executed[:, None], walk, noise)[:, 0]
            control.u0 = executed
        slack = 0.1 * (np.array(reactor.MOST) - np.array(reactor.LEAST))
        control.known["_p", 0] = np.clip(state[4:], np.array(reactor.LEAST) - slack, np.array(reactor.MOST) + slack)
        control.wanted = target
        inputs = control.make_step(state[:4, None])[:, 0]
        self.ms.append(1e3 * (time.perf_counter() - started))
        return torch.from_numpy(np.clip(inputs, reactor.LOW, reactor.HIGH))

    def _filter(self) -> Any:
        estimator = self._package.estimator.EKF(model("_x"))
        estimator.settings.t_step = reactor.PERIOD
        estimator.setup()
        return estimator

    def _controller(self) -> Any:
        made = model("_p")
        control = self._package.controller.MPC(made)
        control.settings.supress_ipopt_output()
        control.set_param(
            n_horizon=HORIZON, n_robust=0, t_step=reactor.PERIOD, store_full_solution=False,
            state_discretization="collocation", collocation_type="radau", collocation_deg=2, collocation_ni=1,
        )
        scales = {"T_R": 100.0, "T_K": 100.0}
        for name, value in scales.items():
            control.scaling["_x", name] = value
        half = (np.array(reactor.HIGH) - np.array(reactor.LOW)) / 2
        error = ((made.x["C_b"] - made.tvp["target"]) / SCALE["C_b"]) ** 2
        error += ((made.x["T_R"] - WARMTH) / SCALE["T_R"]) ** 2
        control.set_objective(mterm=error, lterm=error)
        for name, low, high, size in zip(reactor.ACTIONS, reactor.LOW, reactor.HIGH, half, strict=True):
            control.scaling["_u", name] = size
            control.bounds["lower", "_u", name], control.bounds["upper", "_u", name] = low, high
        control.set_rterm(F=MOVE / 2, Q_dot=MOVE / 2)  # do-mpc squares scaled moves
        for name, low, high in [("C_a", 0.01, 5.0), ("C_b", 0.01, 3.0), ("T_R", 50.0, 180.0), ("T_K", 30.0, 180.0)]:
            control.bounds["lower", "_x", name], control.bounds["upper", "_x", name] = low, high
        control.set_nl_cons("T_R", made.x["T_R"], ub=LIMIT, soft_constraint=True, penalty_term_cons=_SOFT)
        control.known = control.get_p_template(1)
        control.known["_p", 0] = np.array(reactor.NOMINAL)
        control.set_p_fun(lambda now: control.known)
        varying, control.wanted = control.get_tvp_template(), 0.0

        def coming(now: float) -> Any:
            varying["_tvp", :, "target"] = control.wanted
            return varying

        control.set_tvp_fun(coming)
        control.setup()
        return control
