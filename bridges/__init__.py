# SPDX-License-Identifier: GPL-2.0-or-later
"""Front-ends that give NBD, AoE and local clients access to the SCSI backend."""
