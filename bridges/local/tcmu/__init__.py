# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's door: LUNs as SCSI disks of this host (TCMU with tcm_loop in front)."""
