"""The contenders of the speed benchmark: the same networks in each framework, trained the way its users train them."""
