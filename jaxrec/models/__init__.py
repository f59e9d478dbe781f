"""The networks, called as `model(image, train=...)`. A config names one; a new one is a file and a line here."""

from jaxrec.models.cct import CCT as CCT
from jaxrec.models.cnn import CNN as CNN
from jaxrec.models.mlp import MLP as MLP
from jaxrec.models.resnet import ResNet as ResNet
from jaxrec.models.rnn import RNN as RNN
from jaxrec.models.vit import ViT as ViT
from jaxrec.models.whitened import WhitenedCNN as WhitenedCNN
