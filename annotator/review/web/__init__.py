"""Files of the review pages: templates, styles and scripts."""
