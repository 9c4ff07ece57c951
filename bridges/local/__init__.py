# SPDX-License-Identifier: GPL-2.0-or-later
"""The local bridge: raw CDBs over a unix socket, the role of scst_local."""
