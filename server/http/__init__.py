"""HTTP: requests into actions and results into answers. It serves whatever the catalogue lists and knows no entity."""
