"""The networks. A config names one of these classes; adding a network is a file and a line here."""

from jaxrec.models.cnn import CNN as CNN
