"""Slots that are followed though most are out of sight: a learned motion in a Kalman filter of each slot.

Knows latents of N slots (x, y, seen) and actions, not where they come from. Shapes: B problems, K candidates, R rows,
T moments, H horizon, N slots, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import torch
from torch import Tensor, nn

from steersman.core import Belief, ConfigError, Imagined, Latent, Signature, WorldModel, register
from steersman.core.records import TensorRecord
from steersman.nn import ActionEmbedding, mlp

UNKNOWN = 0.33
"""Variance of the place of what was never seen: of a place anywhere in [-1, 1]."""
_FIRST_SPEED = 0.003  # variance of the speed of what was seen for the first time
_FIRST_NOISE, _FIRST_AGENCY, _LEAST = -10.0, -9.0, 1e-7
_CODE = 4  # numbers that tell slots apart


@dataclass(frozen=True)
class Followed(TensorRecord):
    """What is believed of every slot: mean and covariance of place and speed, the same along both axes.

    place, speed       (R, N, 2)
    aa, ab, bb         (R, N): variance of the place, covariance with the speed, variance of the speed
    """

    place: Tensor
    speed: Tensor
    aa: Tensor
    ab: Tensor
    bb: Tensor


class KalmanSlots(WorldModel):
    """Each slot has a place x and a speed v, of which the place is measured where it is seen:

        v ← v + F(x_i, v_i, c_i) + Σ_j P(x_j - x_i, v_j - v_i, spread_i, spread_j) + G(x_i) (M_i a + α_i z_i)
        x ← x + v,          z_i ~ N(0, 1)
        spread of v         q_i = (α_i G(x_i))² + exp n(x_i, v_i, nearest)
        measured            x + e,  e ~ N(0, r)

    F, P, G > 0 and n are perceptrons that all slots share, c_i a code of the slot. G is how well a push takes hold
    where the slot is; z_i is a **latent action**: what an agent that is only watched must have done. Because G is
    shared and multiplies both, what is learned of it by watching another agent holds for one's own pushes M_i a. Mean
    and covariance go on as in a Kalman filter of constant speed whose noise is learned.

    Third number of a state: how well the place is known, r / (r + its variance); of a measured latent, how much of
    the thing is in sight; above a half it is a measurement. `imagine` returns means; the carry holds speeds and
    covariances, so that what is imagined tells how unsure it is (`variance`).

    width  of the perceptrons, two hidden layers each

    Raises:
        ConfigError: states that are not slots of three numbers.
    """

    @register(WorldModel)
    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="kalman-slots"):
        """As `KalmanSlots`."""

        width: int = 48

        def build(
            self, signature: Signature, latent_shape: tuple[int, ...], context_shape: tuple[int, int, int] | None
        ) -> KalmanSlots:
            return KalmanSlots(signature, latent_shape, self.width)

    def __init__(self, signature: Signature, latent_shape: tuple[int, ...], width: int = 48) -> None:
        super().__init__()
        if len(latent_shape) != 2 or latent_shape[1] != 3 or width < 1:
            raise ConfigError("slots (N, 3), a place and how much of it is in sight, and a width of at least 1",
                              f"{latent_shape}, {width}", "use `KeypointEncoder`, or another world model")
        slots = latent_shape[0]
        self.actions = ActionEmbedding(signature.action)
        self.code = nn.Parameter(0.5 * torch.randn(slots, _CODE))
        self.motion = mlp([4 + _CODE, width, width, 2], silent=True)
        self.pair = mlp([6, width, width, 2], silent=True)
        self.hold = mlp([2, width, 1], silent=True)
        self.noise = mlp([5, width, 1], silent=True)
        self.push = nn.Parameter(torch.zeros(slots, 2, self.actions.width))
        self.agency = nn.Parameter(torch.full((slots,), _FIRST_AGENCY))  # log α²
        self.log_r = nn.Parameter(torch.tensor(-8.0))

    @property
    def r(self) -> Tensor:
        """Variance of a measurement of a place along an axis."""
        return self.log_r.exp() + _LEAST

    def begin(self, latent: Latent, actions: Tensor, exogenous: Tensor | None = None) -> Belief:
        found = self.fresh(latent.state[:, 0])
        for t in range(1, latent.state.shape[1]):
            found = self.measure(self.step(found, actions[:, t - 1]), latent.state[:, t])
        return self.believed(found, None if latent.context is None else latent.context[:, -1])

    def correct(self, foreseen: Belief, latent: Latent, measured: Tensor | None) -> Belief:
        seen = latent.state
        if measured is not None:
            seen = torch.where(measured.expand_as(seen).all(-1, keepdim=True), seen, torch.zeros_like(seen))
        return self.believed(self.measure(self.followed(foreseen), seen), foreseen.context)

    def imagine(
        self, belief: Belief, actions: Tensor, exogenous: Tensor | None = None, u: Tensor | None = None
    ) -> Imagined:
        b, k = actions.shape[:2]
        found = self.followed(belief).map(lambda x: x.repeat_interleave(k, 0))
        states = [belief.state.repeat_interleave(k, 0)]
        for action in actions.flatten(0, 1).unbind(1):
            found = self.step(found, action)
            states.append(self.believed(found).state)
        carry = tuple(x.unflatten(0, (b, k)) for x in self.believed(found).carry)
        return Imagined(torch.stack(states, 1).unflatten(0, (b, k)), belief.context, carry=carry)

    def fresh(self, seen: Tensor) -> Followed:
        """What is believed of the first moment (R, N, 3): the middle of the scene of what is not in sight."""
        place, known = seen[..., :2], seen[..., 2:] > 0.5
        first = torch.where(known, place, torch.zeros_like(place))
        wide = torch.full_like(place[..., 0], UNKNOWN)
        aa = torch.where(known[..., 0], self.r.to(wide).expand_as(wide), wide)
        return Followed(first, torch.zeros_like(place), aa, torch.zeros_like(aa), torch.full_like(aa, _FIRST_SPEED))

    def step(self, now: Followed, actions: Tensor) -> Followed:
        """One step further: actions (R, A)."""
        drift, spread = self.driven(now, actions)
        bb = now.bb + spread
        ab = now.ab + bb
        aa = (now.aa + now.ab + ab).clamp(max=UNKNOWN)
        speed = (now.speed + drift).clamp(-1, 1)  # nothing crosses half the scene in a step
        # what is known of a place nowhere cannot be correlated with more than there is
        limit = (aa * bb).sqrt()
        return Followed((now.place + speed).clamp(-1, 1), speed, aa, ab.clamp(max=limit, min=-limit), bb)

    def driven(self, now: Followed, actions: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the speed on average, (R, N, 2), and the variance of the rest, (R, N)."""
        place, speed = now.place, now.speed * 10
        rows, slots = place.shape[:2]
        hold = self.hold(place).exp()
        pushed = torch.einsum("nda,ra->rnd", self.push, self.actions(actions).to(place))
        motion = self.motion(torch.cat([place, speed, self.code.expand(rows, -1, -1)], -1))
        drift = 0.1 * motion + hold * pushed
        apart = place[:, None] - place[:, :, None]  # [i, j]: from i to j
        other = ~torch.eye(slots, dtype=torch.bool, device=place.device)
        near = place.new_zeros(rows, slots)
        if slots > 1:
            blur = (now.aa / UNKNOWN).sqrt()
            both = torch.stack([blur[:, :, None].expand(-1, -1, slots), blur[:, None].expand(-1, slots, -1)], -1)
            pairs = torch.cat([apart, speed[:, None] - speed[:, :, None], both], -1)[:, other]
            drift = drift + 0.1 * self.pair(pairs).unflatten(1, (slots, slots - 1)).sum(2)
            distance = (apart.square().sum(-1) + 1e-6).sqrt()[:, other].unflatten(1, (slots, slots - 1))
            near = distance.amin(-1)
        rest = self.noise(torch.cat([place, speed, near[..., None]], -1))[..., 0]
        variance = (self.agency.exp() * hold[..., 0].square() + (rest + _FIRST_NOISE).clamp(max=0).exp() + _LEAST)
        return drift, variance

    def measure(self, now: Followed, seen: Tensor) -> Followed:
        """Corrected by a moment (R, N, 3): Kalman's gains, 0 where a slot is not in sight."""
        known = (seen[..., 2] > 0.5).to(now.aa)
        total = now.aa + self.r
        gain, quick = known * now.aa / total, known * now.ab / total
        off = seen[..., :2] - now.place
        return Followed(now.place + gain[..., None] * off, now.speed + quick[..., None] * off,
                        (1 - gain) * now.aa, (1 - gain) * now.ab, now.bb - quick * now.ab)

    def lost(self, now: Followed, gone: Tensor, place: Tensor) -> Followed:
        """Slots that were not where they had to be, gone (R, N) bool: at best at places (R, N, 2), of any speed."""
        wide, rest = torch.full_like(now.aa, UNKNOWN), torch.zeros_like(now.aa)
        here = gone[..., None]
        return Followed(torch.where(here, place, now.place), torch.where(here, torch.zeros_like(place), now.speed),
                        torch.where(gone, wide, now.aa), torch.where(gone, rest, now.ab),
                        torch.where(gone, torch.full_like(now.bb, _FIRST_SPEED), now.bb))

    def believed(self, now: Followed, context: Tensor | None = None) -> Belief:
        sure = self.r / (self.r + now.aa)
        return Belief(torch.cat([now.place, sure[..., None]], -1), context,
                      (now.speed, torch.stack([now.aa, now.ab, now.bb], -1)))

    def followed(self, belief: Belief) -> Followed:
        """What a belief's state and carry say."""
        speed, covariance = belief.carry
        return Followed(belief.state[..., :2], speed, *covariance.unbind(-1))

    def variance(self, belief: Belief) -> Tensor:
        """(B, N): variance of each slot's place along an axis."""
        return belief.carry[1][..., 0]

    @torch.no_grad()
    def inferred(self, seen: Tensor, actions: Tensor) -> Tensor:
        """The latent actions that explain a film: measured slots (R, T+1, N, 3), actions (R, T, A) of one's own ->
        (R, T, N, 2) posterior means of z, in the light of all of the film.

            m_t^s = m_t + P_t Aᵀ (P_{t+1}^-)⁻¹ (m_{t+1}^s - m_{t+1}^-)      (Rauch, Tung & Striebel 1965)
            z_t = (v_{t+1}^s - v_t^s - drift_t) / (α G(x_t))
        """
        now = self.fresh(seen[:, 0])
        after, before, drifts, holds = [now], [], [], []
        for t, action in enumerate(actions.unbind(1)):
            foreseen = self.step(now, action)
            drifts.append(self.driven(now, action)[0])
            holds.append((0.5 * self.agency).exp()[:, None] * self.hold(now.place).exp())
            now = self.measure(foreseen, seen[:, t + 1])
            before.append(foreseen)
            after.append(now)
        place, speed, found = now.place, now.speed, []
        for t in range(len(before) - 1, -1, -1):  # time is sequential, backwards
            was, then = after[t], before[t]
            most = then.aa * then.bb
            determinant = torch.maximum(most - then.ab.square(), 1e-4 * most)  # what single precision leaves of it
            cross = was.aa + was.ab, was.ab, was.ab + was.bb, was.bb  # P Aᵀ of x ← x + v
            off_x, off_v = place - then.place, speed - then.speed
            pull_x = (then.bb[..., None] * off_x - then.ab[..., None] * off_v) / determinant[..., None]
            pull_v = (then.aa[..., None] * off_v - then.ab[..., None] * off_x) / determinant[..., None]
            later = speed
            place = was.place + cross[0][..., None] * pull_x + cross[1][..., None] * pull_v
            speed = was.speed + cross[2][..., None] * pull_x + cross[3][..., None] * pull_v
            found.append((later - speed - drifts[t]) / holds[t])
        return torch.stack(found[::-1], 1)
