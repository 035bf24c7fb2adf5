"""The pages that people review with: the grid, a pair's history, progress, and who may see them."""
