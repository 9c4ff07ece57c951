# SPDX-License-Identifier: GPL-2.0-or-later
"""Device servers: what a CDB means."""
