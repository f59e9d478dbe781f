"""Why a network answers as it does: heat maps of images, what a network attends to and reads, and how far maps hold.

Pure functions of any `apply`, images [B, H, W, C] -> logits [B, K], that can be compiled, batched and laid out over
devices. They take the class that is explained as `target`, int [B].
"""

from jaxrec.explain.attention import Attention as Attention
from jaxrec.explain.attention import attention_of as attention_of
from jaxrec.explain.attention import rollout as rollout
from jaxrec.explain.curves import area as area
from jaxrec.explain.curves import deletion as deletion
from jaxrec.explain.curves import insertion as insertion
from jaxrec.explain.feature_maps import feature_maps as feature_maps
from jaxrec.explain.feature_maps import grad_cam as grad_cam
from jaxrec.explain.feature_maps import with_layer_names as with_layer_names
from jaxrec.explain.gradients import Apply as Apply
from jaxrec.explain.gradients import heat as heat
from jaxrec.explain.gradients import integrated_gradients as integrated_gradients
from jaxrec.explain.gradients import saliency as saliency
from jaxrec.explain.gradients import smoothgrad as smoothgrad
from jaxrec.explain.neighbours import nearest as nearest
from jaxrec.explain.occlusion import occlusion as occlusion
from jaxrec.explain.reading import row_by_row as row_by_row
from jaxrec.explain.reconstructions import squared_errors as squared_errors
