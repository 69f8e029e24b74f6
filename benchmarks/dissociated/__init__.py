"""Single cells and sections placed in the frame of one section: the page of dissociated cells."""
