"""Step 3, how: forms made from the settings, and a trial at a point that shows at once what they do."""

from __future__ import annotations

import math
from html import escape
from typing import Any

import ipyleaflet
import ipywidgets as w

from ftrack.cleaning import Fill, Outliers
from ftrack.errors import FtrackError, Stop
from ftrack.matchers import NCC
from ftrack.pairs import Pair
from ftrack.prefilters import NAOF, HighPass, LaplacianOfGaussian, NoFilter, Orientation, Wallis
from ftrack.prior import PriorSettings
from ftrack.stable import StableSettings
from ftrack.stack import GridSettings
from ftrack.trial import Trial, Trials
from ftrack.view.chips import plot_surface
from ftrack.view.panel.atlas import AREA
from ftrack.view.panel.form import Kinds, fields
from ftrack.view.panel.pieces import Message, button, heading, labelled, lat_lon, picture
from ftrack.view.panel.state import State, tell

TITLE = "How"
FILTERS = (NoFilter, HighPass, LaplacianOfGaussian, Wallis, NAOF, Orientation)


class How(w.VBox):  # type: ignore[misc]  # ipywidgets has no types
    """The trial, and the settings of every stage."""

    def __init__(self, state: State) -> None:
        self.state, self.trials = state, Trials()
        self.pair = w.Dropdown(layout=w.Layout(width="330px"))
        self.said, self.result, self.kept = Message(), w.HTML(), w.HTML()
        self.shown: Trial | None = None
        self._asked, self._tried = 0, ""
        self.held: dict[str, Any] | None = None
        hold = button("Hold this, to compare", self.hold, tip="keep this trial in view while you change the settings")
        self.forget = button("Forget what is held", self.release)
        self.forget.layout.display = "none"
        self.below = w.VBox([self.result, self.kept], layout=w.Layout(height="330px", overflow="auto"))
        super().__init__(
            [heading("Trial"), labelled("pair", self.pair), self.said, w.HBox([hold, self.forget]), heading("Settings"), self._forms()]
        )
        state.observe(lambda _: self._list_pairs(), "pairs")
        state.observe(lambda _: self._clicked(), "place")
        state.observe(lambda _: self._opened(), "step")
        state.observe(lambda _: self.try_out(), "values")
        self.pair.observe(lambda _: self.try_out(), "value")
        self._list_pairs()

    def _forms(self) -> w.Widget:
        state = self.state
        sections: dict[str, list[w.Widget]] = {
            "Matching (matcher)": fields(state, ("matcher",), NCC),
            "Enhancing images (prefilter)": [Kinds(state, ("prefilter",), FILTERS, "highpass")],
            "Outliers": fields(state, ("outliers",), Outliers),
            "Holes (fill)": fields(state, ("fill",), Fill),
            "Pixels (grid)": fields(state, ("grid",), GridSettings),
        }
        if state.limits.own_files:
            sections["Expected velocity (prior)"] = fields(state, ("prior",), PriorSettings)
            sections["Stable ground"] = fields(state, ("stable",), StableSettings)
        made = w.Accordion([w.VBox(rows) for rows in sections.values()], titles=tuple(sections))
        made.selected_index = 0
        return made

    def _list_pairs(self) -> None:
        pairs = self.state.pairs
        before = self.pair.value
        self.pair.options = [(_name(pair), pair) for pair in pairs]
        if pairs:
            self.pair.value = before if before in pairs else pairs[0]
        if not pairs:
            self.said.say(self.state.fault or "No pairs yet: search in step 1, and look at the pairs in step 2.")
        elif self.shown is None:
            self.said.say("Click a point of the ice on the map.")

    def _clicked(self) -> None:
        if self.state.step == TITLE:
            self._mark()
            self.try_out()

    def _opened(self) -> None:
        if self.state.step == TITLE:
            self.state.aside.children = [self.below]
            self.try_out()
        else:
            self.state.layer("trial").layers = ()

    def _mark(self) -> None:
        lon, lat = self.state.place
        cross = ipyleaflet.CircleMarker(location=(lat, lon), radius=7, color=AREA, fill_opacity=0.0, weight=3)
        self.state.layer("trial").layers = (cross,)

    def try_out(self) -> None:
        """Measure at the point that was clicked, first roughly and at once, then as the run will."""
        state, pair = self.state, self.pair.value
        self.state.layer("trial")
        if state.step != TITLE or not state.place or pair is None:
            return None
        sections = ("matcher", "prefilter", "prior", "grid", "scenes")
        wanted = repr([state.place, pair.id, *(state.value(name) for name in sections)])
        if wanted == self._tried:
            return None
        self._tried = wanted
        try:
            workflow = state.workflow
        except Stop as error:
            return tell(self.said, error)
        self._asked += 1
        number, scenes, place = self._asked, state.scenes, state.place
        finer = workflow.matcher.subpixel == "least_squares"

        def first(trial: Trial) -> None:
            self._show(number, trial, finer)
            if finer and number == self._asked:
                state.later(lambda: self.trials.at(workflow, scenes, pair, place), lambda t: self._show(number, t, False), self._failed)

        return state.later(lambda: self.trials.at(workflow, scenes, pair, place, quick=finer), first, self._failed)

    def _failed(self, error: FtrackError) -> None:
        self._tried = ""
        self.said.say(str(error), "error")

    def _show(self, number: int, trial: Trial, rough: bool) -> None:
        if number != self._asked:
            return
        self.shown = trial
        text = f"{lat_lon(trial.lat, trial.lon)}, {trial.seconds:.2f} s" + (
            "; to a tenth of a pixel at first, being refined ..." if rough else ""
        )
        self.said.say(text, "busy" if rough else "ok")
        self.result.value = described(trial)

    def hold(self) -> None:
        """Keep the trial that is shown beside what changed settings give."""
        if self.shown is None:
            return self.said.say("click a point of the ice on the map first", "error")
        self.held = {name: self.state.value(name, default={}) for name in ("matcher", "prefilter")}
        said = ", ".join(f"{key} {value}" for values in self.held.values() for key, value in values.items()) or "the default settings"
        self.kept.value = f'<div class="ftrack-held"><b>Held:</b> {escape(said)}{self.result.value}</div>'
        self.forget.layout.display = ""
        return None

    def release(self) -> None:
        """Forget the trial that is held."""
        self.kept.value, self.held, self.forget.layout.display = "", None, "none"


def described(trial: Trial) -> str:
    """Return a trial as HTML: its picture, and its numbers."""
    m, v = trial.motion, trial.velocity
    lines = [f"<b>{escape(trial.reason)}</b>"]
    if trial.measured:
        direction = math.degrees(math.atan2(v["vx"], v["vy"])) % 360
        lines += [
            f"<b>{v['v']:,.0f} ± {v['v_error']:,.0f} m/yr</b> towards {direction:.0f}° from grid north",
            f"moved {m['dx']:+.2f} ± {m['dx_error']:.2f} px right, {m['dy']:+.2f} ± {m['dy_error']:.2f} px down "
            f"in {trial.pair.temporal_baseline:.0f} days (pixel {trial.resolution:g} m)",
            f"correlation {m['correlation']:.2f}, {m['peak_ratio']:.1f} times the second peak, chip {m['chip_size']:.0f} px",
        ]
    words = ", ".join(part.replace("<b>", "").replace("</b>", "") for part in lines)
    return f"<div class='ftrack-trial'>{picture(plot_surface(trial), f'trial: {words}')}<div>{'<br>'.join(lines)}</div></div>"


def _name(pair: Pair) -> str:
    return f"{pair.reference_time:%Y-%m-%d} to {pair.secondary_time:%Y-%m-%d} ({pair.temporal_baseline:.0f} days)"
