"""From a STAC search to a time series of ice velocity.

>>> import ftrack as ft
>>> scenes = ft.find_scenes(url, area="glacier.geojson", dates="2020-01-01/2020-03-31")
>>> stack = ft.open_stack(scenes, asset="nir")
>>> pairs = ft.choose_pairs(scenes, max_days=30)
>>> motion = ft.match_stack(ft.prefilter(stack), pairs, ft.NCC(chip_sizes=(16, 32, 64)))
>>> velocity = ft.to_velocity(ft.clean(motion))
"""
