"""What each step of ipar brings, on training slides that were held out."""
