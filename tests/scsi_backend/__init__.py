# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of the SCSI backend; the folders mirror scsi_backend."""
