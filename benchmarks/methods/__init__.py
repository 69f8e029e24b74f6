"""What is compared: the controls with their networks, and ipar as it is documented."""
