"""The three attention geometries of IGA."""
