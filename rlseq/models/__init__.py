"""Networks: encoders, attention, decoders and the policies made of them. No reward and no optimiser."""
