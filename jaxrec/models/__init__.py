"""The networks, called as `model(image, train=...)`. A config names one; a new one is a file and a line here."""

from jaxrec.models.alexnet import AlexNet as AlexNet
from jaxrec.models.cct import CCT as CCT
from jaxrec.models.cnn import CNN as CNN
from jaxrec.models.densenet import DenseNet as DenseNet
from jaxrec.models.googlenet import GoogLeNet as GoogLeNet
from jaxrec.models.lenet import LeNet5 as LeNet5
from jaxrec.models.mlp import MLP as MLP
from jaxrec.models.preact import PreActResNet as PreActResNet
from jaxrec.models.preact import WideResNet as WideResNet
from jaxrec.models.resnet import ResNet as ResNet
from jaxrec.models.rnn import RNN as RNN
from jaxrec.models.vgg import VGG as VGG
from jaxrec.models.vit import ViT as ViT
from jaxrec.models.whitened import WhitenedCNN as WhitenedCNN
