"""The control panel: from an area on a map to a velocity map, step by step.

A step is a ``Step``: a title, and a function ``build(state) -> ipywidgets.Widget`` that is called once, when the step is
first shown. Steps know nothing of each other; what they share is ``ftrack.view.panel.state.State``: they change its traits and
observe them. ``frame.STEPS`` lists them from left to right. They stand on the left; on the right stands one map for all:

- ``state.layer(name)`` is a group of layers on that map (``add``, ``remove``, ``clear``), made when it is first asked for; it moves
  along when the projection changes, which makes a new ``state.map``.
- A click on the map sets ``state.place`` to (longitude, latitude); heed it only while ``state.step`` is the title of the step.
- ``state.later(work, then, place)`` does slow work in a thread and hands its result to ``then`` where widgets may be changed; a
  ``FtrackError`` is told at ``place``, a ``pieces.Message`` that stands where the cause was typed. Without an event loop, as
  in a plain test, all of it happens at once.
- ``state.aside`` is a place below the map; a step fills it when ``state.step`` becomes its title, and finds it empty then.
- ``state.cube`` is the opened cube (None before there is one), and ``state.output`` where it lies.
"""

from ftrack.errors import Stop

try:
    from ftrack.view.panel.frame import Panel
    from ftrack.view.panel.state import PanelLimits
except ModuleNotFoundError as error:
    raise Stop(f"the panel needs the package {error.name}: pip install 'ftrack[panel]'") from error

__all__ = ["Panel", "PanelLimits"]
