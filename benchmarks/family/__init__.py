"""All members of the IPA-Lite family, the validation ladder, and refinement."""
