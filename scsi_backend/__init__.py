# SPDX-License-Identifier: GPL-2.0-or-later
"""A user-space SCSI target with SCST's semantics and vocabulary."""
