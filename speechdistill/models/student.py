"""The one student class, alone and with its prediction heads. Importing this file registers it with transformers."""

import re
import warnings
from collections.abc import Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from speechdistill.batch import Tap, hidden
from speechdistill.frames import num_frames as frames_of
from speechdistill.frames import samples_for
from speechdistill.models.batches import Integers, StudentOutput, Waveforms, as_batch
from speechdistill.models.config import StudentConfig
from speechdistill.models.encoder import Encoder
from speechdistill.models.feature_encoder import FeatureEncoder, FeatureProjection, normalize_waveforms
from speechdistill.models.heads import LayerwiseHeads, make_heads
from speechdistill.models.hubert_interface import HubertInterface, chosen_states
from speechdistill.models.initialization import draw_weights
from speechdistill.models.time_reduction import reduced_frames, restore_frames

# Settings of HubertConfig for training that examples set, and that would be ignored without a word.
_NOT_IN_A_STUDENT = ("layerdrop", "mask_time_prob", "mask_feature_prob")


class Encoded(NamedTuple):
    """What a student makes of a batch.

    Attributes:
        last_hidden_state: (B, T, D), after the final norm of a pre-norm encoder.
        hidden_states: {layer: (B, T, D)}, the layers that were asked for; 0 = the input of the first Transformer
            layer, i = the output of layer i, before the final norm of a pre-norm encoder.
        num_frames: (B,) int64, real frames in each row of `last_hidden_state`.
        taps: those that were asked for, (B, T, W) or (B, H, T, T), T reduced frames after a time reduction.
        attentions: of each layer, if asked for: attention weights (B, H, T, T) after dropout, T reduced frames after a
            time reduction; None for a layer without attention.
    """

    last_hidden_state: Tensor
    hidden_states: dict[int, Tensor]
    num_frames: Tensor
    attentions: tuple[Tensor | None, ...] = ()
    taps: dict[Tap, Tensor] = {}  # noqa: RUF012 (nobody changes it)


class Distilled(NamedTuple):
    """What a student and its heads make of a batch.

    Attributes:
        by_key: predictions (B, P, D') by `prediction_key`; P = T frames, but the last T modulo factor ones are missing
            where layerwise heads follow a time reduction; named heads predict the reduced frames.
        hidden_states: {student layer: (B, T, D)}, the layers that were asked for.
        num_frames: (B,) int64, real frames in each row of the predictions.
        taps: those that were asked for, as in Encoded.
    """

    by_key: dict[str, Tensor]
    hidden_states: dict[int, Tensor]
    num_frames: Tensor
    taps: dict[Tap, Tensor] = {}  # noqa: RUF012 (nobody changes it)

    @property
    def predictions(self) -> dict[int, Tensor]:
        """The predictions by the highest teacher layer that each is of."""
        return {int(re.findall(r"\d+", key)[-1]): prediction for key, prediction in self.by_key.items()}


class StudentPreTrainedModel(HubertInterface):
    """What both classes share: names for transformers, and how fresh weights are drawn."""

    config_class = StudentConfig
    base_model_prefix = "student"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        draw_weights(module, self.config.outer_initialization)

    def _conv_module(self) -> nn.Module:
        encoder: nn.Module = self.base_model.feature_encoder
        return encoder


class StudentModel(StudentPreTrainedModel):
    """The one student: convolutional feature encoder, Transformer with a record for each layer.

    Modules and parameters are named as in transformers' HubertModel, so that weights copy one to one; only its
    `feature_extractor` is `feature_encoder` here (and an alias of it), and `masked_spec_embed` is there only if the
    config says `mask_embedding`.
    """

    # The file of a student that was saved together with its heads holds them as well; they are left out on purpose.
    _keys_to_ignore_on_load_unexpected = (r"^heads\.",)

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.feature_encoder = FeatureEncoder(config)
        self.feature_projection = FeatureProjection(config)
        self.encoder = Encoder(config)
        for name in _NOT_IN_A_STUDENT:
            if value := getattr(config, name, 0):
                warnings.warn(f"a student has no {name}: {name}={value} of its config changes nothing", stacklevel=2)
        self.masked_spec_embed = nn.Parameter(torch.empty(config.hidden_size)) if config.mask_embedding else None
        self.post_init()

    @property
    def feature_extractor(self) -> FeatureEncoder:
        """The convolutional feature encoder, under HubertModel's name."""
        return self.feature_encoder

    def convolve(self, waveforms: Tensor, num_samples: Tensor | None = None) -> Tensor:
        """Run the front end alone: normalisation, if the config says so, and convolutions.

        Args:
            waveforms: (B, S) float at 16 kHz in [-1, 1].
            num_samples: (B,) real samples in each row; None = no row is padded.

        Returns:
            (B, T, C) conv features.
        """
        if self.config.normalize_waveforms:
            waveforms = normalize_waveforms(waveforms, _only_where_padded(num_samples, waveforms))
        return self.feature_encoder(waveforms).transpose(1, 2)

    def encode(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None = None,
        layers: Collection[int] = (),
        upsample: bool = True,
        masked: Tensor | None = None,
        features: Tensor | None = None,
        attentions: bool = False,
        taps: Collection[Tap] = (),
    ) -> Encoded:
        """Encode a batch; the entry for everything inside this package.

        Args:
            waveforms: (B, S) float at 16 kHz in [-1, 1]; normalised here if the config says so.
            num_samples: (B,) real samples in each row; None = no row is padded, which is faster.
            layers: hidden states to return, 0 to L.
            upsample: bring what a time reduction made shorter back to T frames of 20 ms, by repetition. If not, it
                comes with its T' = `reduced_frames(T)` frames (layers in front of the reduction still have T), and
                `num_frames` counts those of the last hidden state.
            masked: (B, T) bool, frames that the Transformer does not get to see: `masked_spec_embed` stands in their
                place, behind the projection and in front of the positional convolution.
            features: (B, T, C) what `convolve` makes of the waveforms, where it is known already.
            attentions: whether to return attention weights as well; takes their memory, B * H * T * T a layer.
            taps: what else to return; nothing is computed for the others.

        Returns:
            The last hidden state, the chosen ones and the real frames of each row; what stands behind a row's last
            real frame has no meaning.

        Raises:
            ValueError: the waveforms are shorter than one frame, not (B, S), a layer does not exist, or frames are to
                be masked by a student that has no mask embedding.
        """
        self._check(waveforms, layers, taps)
        num_samples = _only_where_padded(num_samples, waveforms)
        conv = self.convolve(waveforms, num_samples) if features is None else features
        features = self.feature_projection(conv)
        if masked is not None:
            if self.masked_spec_embed is None:
                raise ValueError("frames are masked, but StudentConfig.mask_embedding is False: nothing to mask with")
            features = torch.where(masked[..., None], self.masked_spec_embed.to(features.dtype), features)
        num_frames = None if num_samples is None else frames_of(num_samples, self.config.conv_stack)
        last, kept, weights = self.encoder(features, num_frames, {*hidden(layers), *taps}, attentions)
        states = {layer: kept[Tap("hidden", layer)] for layer in layers}
        kept |= {Tap("conv", 0): conv}
        found = {tap: kept[tap] for tap in taps}
        real, size = self._num_frames(waveforms, num_samples), features.shape[1]
        if not upsample:
            return Encoded(last, states, reduced_frames(real, self.config.time_reduction_factor), weights, found)
        states = {layer: self._restore(state, layer, real, size) for layer, state in states.items()}
        return Encoded(self._restore(last, self.config.num_hidden_layers, real, size), states, real, weights, found)

    def _num_frames(self, waveforms: Tensor, num_samples: Tensor | None) -> Tensor:
        """(B,) real frames of 20 ms."""
        if num_samples is None:
            num_samples = torch.full(waveforms.shape[:1], waveforms.shape[1], device=waveforms.device)
        return frames_of(num_samples.to(waveforms.device), self.config.conv_stack)

    def _restore(self, state: Tensor, layer: int, num_frames: Tensor, size: int) -> Tensor:
        """Bring a hidden state to the `size` frames that it had before a time reduction, if it stands behind one."""
        factor = self.config.reduction_of(layer)
        return state if factor == 1 else restore_frames(state, factor, size, num_frames)

    def hidden_states(
        self, waveforms: Tensor, num_samples: Tensor | None, layers: Collection[int]
    ) -> tuple[dict[int, Tensor], Tensor]:
        """Return {layer: (B, T, D)} and (B,) real frames; arguments as in `encode`."""
        encoded = self.encode(waveforms, num_samples, layers)
        return encoded.hidden_states, encoded.num_frames

    def forward(
        self,
        input_values: Waveforms,
        attention_mask: Integers | None = None,
        mask_time_indices: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | int | list[int] | None = None,
        return_dict: bool | None = None,
        *,
        num_samples: Integers | None = None,
    ) -> StudentOutput | tuple[Any, ...]:
        """Encode waveforms as transformers' HubertModel does; what is None is as the config says.

        Args:
            input_values: (B, S) float at 16 kHz in [-1, 1], zeros after each row's end; or a list of recordings (S,) of
                any lengths, padded in here. Tensors or NumPy arrays. Normalised in here if the config says
                `normalize_waveforms`, over real samples.
            attention_mask: (B, S) of any dtype, 1 = a real sample, 0 = padding after it.
            mask_time_indices: (B, T) bool, frames that the Transformer does not get to see, where the config says
                `mask_embedding`.
            output_attentions: whether to return attention weights; in any implementation of attention.
            output_hidden_states: whether to return all L + 1 hidden states; or the indices of some, with None in place
                of the others.
            return_dict: whether to return an object with names or a tuple.
            num_samples: (B,) real samples in each row; says the same as a mask, in less memory.

        Returns:
            last_hidden_state (B, T, D); hidden_states, L + 1 times (B, T, D), the first the input of the first
            Transformer layer, the last before the final norm of a pre-norm encoder; attentions, L times (B, H, T, T),
            with reduced frames after a time reduction, None for a layer without attention; num_frames (B,), real
            frames in each row, by name alone: a tuple is HubertModel's.

        Raises:
            ValueError: the waveforms are shorter than one frame, no floating point or not (B, S); a mask and lengths
                are given, or a mask that says something else than (B,) lengths.
        """
        config = self.config
        waveforms, lengths = as_batch(input_values, attention_mask, num_samples, self.device, self.dtype)
        all_states = config.num_hidden_layers + 1
        asked = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        layers = chosen_states(asked, all_states)
        attentions = bool(config.output_attentions if output_attentions is None else output_attentions)
        masked = None if mask_time_indices is None else mask_time_indices.bool()
        encoded = self.encode(waveforms, lengths, layers, masked=masked, attentions=attentions)
        output = StudentOutput(
            last_hidden_state=encoded.last_hidden_state,
            hidden_states=tuple(map(encoded.hidden_states.get, range(all_states))) if layers else None,
            attentions=encoded.attentions if attentions else None,
            num_frames=encoded.num_frames,
        )
        return output if (config.return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _check(self, waveforms: Tensor, layers: Collection[int], taps: Collection[Tap]) -> None:
        if waveforms.ndim != 2:
            raise ValueError(f"waveforms have the shape {tuple(waveforms.shape)}; allowed: (batch, samples)")
        if frames_of(waveforms.shape[1], self.config.conv_stack) < 1:
            window = samples_for(1, self.config.conv_stack)
            raise ValueError(
                f"the waveforms are too short: {waveforms.shape[1]} samples, one frame takes {window}; pad or leave out"
            )
        if wrong := [layer for layer in layers if not 0 <= layer <= self.config.num_hidden_layers]:
            raise ValueError(f"layers {wrong} do not exist; allowed: 0 to {self.config.num_hidden_layers}")
        for tap in taps:
            if reason := self.config.lacks(tap):
                raise ValueError(f"there is no tap {tap.key}: {reason}")


class StudentForDistillation(StudentPreTrainedModel):
    """A student and its prediction heads: one file, from which `StudentModel` and AutoModel take the student alone.

    Where the config has no heads, because nothing is predicted, there are no predictions.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.student = StudentModel(config)
        self.heads = None if config.heads is None else make_heads(config)
        self.post_init()

    def forward(
        self,
        waveforms: Tensor,
        num_samples: Tensor | None = None,
        layers: Collection[int] = (),
        masked: Tensor | None = None,
        features: Tensor | None = None,
        taps: Collection[Tap] = (),
    ) -> Distilled:
        """Predict what the teacher makes of the waveforms; arguments as in `StudentModel.encode`.

        Joint heads and a contextual one read the last hidden state at 20 ms. Layerwise heads read theirs as a time
        reduction leaves them and make factor frames of each, so that frames of an incomplete last group are not
        predicted. Named heads read taps as they are.
        """
        given: dict[str, Any] = {"masked": masked, "features": features, "taps": taps}
        if isinstance(self.heads, nn.ModuleDict):
            heads: dict[str, Any] = dict(self.heads.items())
            given["taps"] = {*taps, *(tap for head in heads.values() for tap in head.taps)}
            encoded = self.student.encode(waveforms, num_samples, layers, **given)
            found = {key: one for name, head in heads.items() for key, one in head(encoded.taps, name).items()}
            self._tie(found, encoded.last_hidden_state)
            return Distilled(found, encoded.hidden_states, encoded.num_frames, encoded.taps)
        if not isinstance(self.heads, LayerwiseHeads):
            encoded = self.student.encode(waveforms, num_samples, layers, **given)
            predictions = {} if self.heads is None else self.heads(encoded.last_hidden_state)
            if self.heads is None:
                self._tie(encoded.taps, encoded.last_hidden_state)
            return Distilled(predictions, encoded.hidden_states, encoded.num_frames, encoded.taps)
        student = self.student
        wanted = {*self.heads.student_layers, *layers}
        encoded = student.encode(waveforms, num_samples, wanted, upsample=False, **given)
        predictions = self.heads(encoded.hidden_states, encoded.last_hidden_state)
        real = student._num_frames(waveforms, num_samples)
        size = frames_of(waveforms.shape[1], self.config.conv_stack)
        shortest = min(size, *(prediction.shape[1] for prediction in predictions.values()))
        return Distilled(
            {key: prediction[:, :shortest] for key, prediction in predictions.items()},
            {layer: student._restore(encoded.hidden_states[layer], layer, real, size) for layer in layers},
            # A recording that was filled up to a whole group has fewer frames than the group.
            torch.minimum(encoded.num_frames * self.config.time_reduction_factor, real),
            encoded.taps,
        )

    def _tie(self, found: dict[Any, Tensor], last: Tensor) -> None:
        """Give all weights a gradient, if one of zeros: taps may leave some out, and several devices wait for each."""
        if found and self.training and torch.is_grad_enabled():
            name = next(iter(found))
            found[name] = found[name] + 0.0 * last.flatten()[0]


def _only_where_padded(num_samples: Tensor | None, waveforms: Tensor) -> Tensor | None:
    """Drop lengths that say that nothing is padded, where a look at them costs no wait and is no part of a graph."""
    if num_samples is None:
        return None
    recording = torch.compiler.is_compiling() or torch.jit.is_tracing()
    looking_is_free = num_samples.device.type == "cpu" and not recording
    if looking_is_free and bool((num_samples == waveforms.shape[1]).all()):
        return None
    return num_samples.to(waveforms.device)


AutoConfig.register(StudentConfig.model_type, StudentConfig, exist_ok=True)
AutoModel.register(StudentConfig, StudentModel, exist_ok=True)
