"""What networks are made of: kernels and modules that know no source and no sequence."""
