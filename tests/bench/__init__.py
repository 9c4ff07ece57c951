# SPDX-License-Identifier: GPL-2.0-or-later
"""Benchmark of the NBD front-ends beside C servers of the same protocol.

Started by `python -m tests.bench`; the test_*.py files here check only its pure parts, so that
the ordinary test run never measures anything.
"""
