CONTRACTS: tuple = ()
