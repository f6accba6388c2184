"""Recipe of the model `yeast-promoter`."""
