"""Thaw: transfer learning as a job (freeze, train a head, checkpoint, resume, thaw, fine-tune)."""

__version__ = "0.1.0"
