# SPDX-License-Identifier: GPL-2.0-or-later
"""The NBD bridge: the daemon's own server and the nbdkit plugin."""
