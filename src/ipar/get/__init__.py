"""Results of ipar as tables."""

from ipar.get._tables import coords, record, uncertainty

__all__ = ["coords", "record", "uncertainty"]
