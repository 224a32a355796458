"""How fast Kurs is: beside named peers (`make bench`), and with all of its services under load (`make load`)."""
