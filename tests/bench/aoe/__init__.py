# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmark of the AoE front-end beside vblade.

Started by `python -m tests.bench.aoe`; the test_*.py files here check frames, counts and plans, so
that the ordinary test run never measures anything.
"""
