from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from models.decoupled_attention import is_reference_output
from models.pipeline import RefStarPipeline
from models.refsel import CheckpointError
from models.restorer import Phase
from restoration.refstar_config import MaskSource, Rate
from restoration.refstar_run import LOOPS

EVERY = pytest.mark.parametrize("phase", list(Phase))


def _train(session, stop_after=None):
    """Run a phase's loop; `stop_after` cuts it off as Ctrl-C would."""
    if stop_after is not None:

        def stop(done, _total):
            if done == stop_after:
                raise KeyboardInterrupt

        session._progress = stop
        with pytest.raises(KeyboardInterrupt):
            LOOPS[session._phase](session)
        return session
    LOOPS[session._phase](session)
    session.close()
    return session


def _state(session):
    pipeline = session.networks.pipeline
    parts = {"restorer": pipeline.restorer, "refsel": pipeline.refsel}
    return {
        f"{name}.{key}": tensor.clone()
        for name, part in parts.items()
        if part is not None
        for key, tensor in part.state_dict().items()
    }


def _may_move(session, phase):
    pipeline = session.networks.pipeline
    if phase is Phase.THREE:
        return {f"refsel.{name}" for name, _ in pipeline.refsel.named_parameters()}
    return {f"restorer.{name}" for name in pipeline.restorer.trainable_parameters(phase)}


def _check_moves(before, after, allowed, phase):
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved <= allowed
    # A prompt of zeros leaves the projections that read it without a gradient.
    assert not {name for name in allowed - moved if ".attn2." not in name and phase is Phase.ONE}
    assert len(moved) > 0.7 * len(allowed)


@EVERY
def test_only_the_phases_parameters_move_and_they_do_also_after_a_resume(open_session, phase):
    session = open_session(phase)
    allowed, before = _may_move(session, phase), _state(session)
    _train(session, stop_after=2)
    after = _state(session)
    _check_moves(before, after, allowed, phase)
    resumed = open_session(phase, resume=True)
    assert resumed.start == 2
    begun = _state(resumed)
    assert begun.keys() == after.keys()
    assert all(torch.equal(begun[name], after[name]) for name in begun)
    _train(resumed)
    _check_moves(begun, _state(resumed), allowed, phase)


@EVERY
@pytest.mark.parametrize("adversarial", [True, False])
def test_interrupted_and_resumed_equals_uninterrupted(
    open_session, refstar_settings, phase, adversarial
):
    losses = refstar_settings.losses
    if not adversarial:
        losses = replace(losses, in_ground_truth=replace(losses.in_ground_truth, adversarial=0))
    name = ("phase_one", "phase_two", "phase_three")[phase - 1]
    training = replace(refstar_settings.phase(phase), accumulate=2, batch_size=1, rate=Rate.COSINE)
    changes = {
        name: training,
        "losses": losses,
        "data": replace(refstar_settings.data, own_references=3),
        "optimisation": replace(refstar_settings.optimisation, output_rate=4.0),
    }
    whole = _train(open_session(phase, out="whole", **changes))
    _train(open_session(phase, out="cut", **changes), stop_after=3)
    resumed = _train(open_session(phase, out="cut", resume=True, **changes))
    assert resumed.start == 2
    assert len(whole.losses) == 4
    assert resumed.losses == whole.losses
    folders = [one._place.folder for one in (whole, resumed)]
    for written in folders[0].rglob("*.safetensors"):
        twin = folders[1] / written.relative_to(folders[0])
        assert twin.read_bytes() == written.read_bytes(), written


def test_phase_two_begins_at_phase_ones_output(open_session):
    session = open_session(Phase.TWO)
    batch = next(session.batches())
    pipeline = session.networks.pipeline
    prompt = pipeline.prompt.of(batch.reference)
    mask = pipeline.choose_mask(batch.degraded, batch.reference)
    assert mask.any()
    first = session.model(batch.degraded, prompt)
    assert torch.equal(session.model(batch.degraded, prompt, batch.reference, mask), first)
    assert session._validation.measure(pipeline).full == pytest.approx(
        session._validation.measure(pipeline).phase_one
    )


def test_phase_two_reads_the_annotated_mask_only_where_it_is_told_to(
    open_session, refstar_settings
):
    data = replace(refstar_settings.data, mask=MaskSource.ANNOTATED)
    session = open_session(Phase.TWO, data=data)
    assert session.networks.pipeline.refsel is None
    _train(session)
    by_refsel = _train(open_session(Phase.TWO, out="other"))
    assert session.losses != by_refsel.losses


def test_only_phase_one_sees_clean_inputs(open_session, refstar_settings):
    data = replace(refstar_settings.data, clean=1.0)
    for phase, clean in ((Phase.ONE, True), (Phase.TWO, False)):
        batch = next(open_session(phase, data=data).batches())
        assert torch.equal(batch.degraded, batch.truth) == clean


def test_only_phase_two_begins_with_its_own_truth_as_reference(open_session, refstar_settings):
    data = replace(refstar_settings.data, own_references=1000)
    drawn = {}
    for phase in Phase:
        plain, practised = (
            next(open_session(phase, out=out, data=one).batches())
            for out, one in (("plain", refstar_settings.data), ("own", data))
        )
        assert torch.equal(plain.truth, practised.truth)
        drawn[phase] = not torch.equal(plain.reference, practised.reference)
    assert drawn == {Phase.ONE: False, Phase.TWO: True, Phase.THREE: False}


def test_output_projections_learn_as_many_times_faster_as_was_asked_for(
    open_session, refstar_settings
):
    moved = []
    for times in (1.0, 5.0):
        optimisation = replace(refstar_settings.optimisation, output_rate=times)
        session = open_session(Phase.TWO, out=f"run-{times}", optimisation=optimisation)
        before = {name: p.clone() for name, p in session._parameters.items()}
        _train(session, stop_after=1)
        moved.append(
            {n: (p - before[n]).abs().max().item() for n, p in session._parameters.items()}
        )
    outputs = [name for name in moved[0] if is_reference_output(name)]
    others = [name for name in moved[0] if "reference_net" in name and moved[0][name]]
    assert outputs
    assert all(moved[1][n] == pytest.approx(5 * moved[0][n], rel=1e-3) for n in outputs)
    assert others
    assert all(moved[1][n] == moved[0][n] for n in others)


def test_a_phase_saves_averaged_weights_that_a_pipeline_loads(open_session):
    session = _train(open_session(Phase.TWO))
    folder = session._place.folder
    best, last = (RefStarPipeline.from_pretrained(folder / name) for name in ("best", "last"))
    assert best.refsel is not None
    raw = session.networks.pipeline.restorer.state_dict()
    saved = last.restorer.state_dict()
    assert saved.keys() == raw.keys()
    learnt = session.networks.pipeline.restorer.trainable_parameters(Phase.TWO)
    assert any(not torch.equal(saved[name], raw[name]) for name in learnt)
    assert all(torch.equal(saved[n], raw[n]) for n in raw if n not in learnt)
    average = session._average.state()
    assert all(torch.equal(saved[name], average[name]) for name in learnt)


def test_the_newest_states_are_kept_and_the_board_is_written(open_session, refstar_settings):
    training = replace(refstar_settings.phase_one, steps=5, checkpoint_every=1, keep=2)
    session = _train(open_session(Phase.ONE, phase_one=training))
    folder = session._place.folder
    kept = sorted(path.name for path in (folder / "states").iterdir())
    assert kept == ["step-00000004.pt", "step-00000005.pt"]
    written = b"".join(path.read_bytes() for path in (folder / "tensorboard").glob("events*"))
    for name in (b"train/gt/l1", b"train/total", b"validation/face PSNR full", b"validation/input"):
        assert name in written


def test_states_that_nobody_asked_for_or_of_other_settings_are_refused(
    open_session, refstar_settings
):
    _train(open_session(Phase.ONE))
    with pytest.raises(ValueError, match="give --resume latest"):
        open_session(Phase.ONE)
    slower = replace(refstar_settings.phase_one, learning_rate=1e-5)
    with pytest.raises(ValueError, match="another learning_rate"):
        open_session(Phase.ONE, resume=True, phase_one=slower)
    # More steps at a constant rate are the same training, only longer.
    longer = replace(refstar_settings.phase_one, steps=5)
    assert len(_train(open_session(Phase.ONE, resume=True, phase_one=longer)).losses) == 5


def test_a_broken_state_is_named(open_session):
    session = _train(open_session(Phase.ONE))
    newest = sorted((session._place.folder / "states").iterdir())[-1]
    newest.write_bytes(b"half a file")
    with pytest.raises(CheckpointError, match=rf"{newest.name} cannot be read"):
        open_session(Phase.ONE, resume=True)


def test_the_frozen_discriminator_gets_no_gradient_from_the_restorer(open_session):
    session = open_session(Phase.ONE)
    discriminator = session.networks.discriminator
    before = copy.deepcopy(discriminator.state_dict())
    batch = next(session.batches())
    restored = batch.degraded.clone().requires_grad_()
    session.judge(restored).sum().backward()
    assert restored.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in discriminator.parameters())
    assert all(torch.equal(t, before[n]) for n, t in discriminator.state_dict().items())
    session.teach_discriminator(batch.truth, restored)
    after = discriminator.state_dict()
    assert any(not torch.equal(t, before[n]) for n, t in after.items())


def test_checkpointing_and_recomputing_change_no_loss(open_session, refstar_settings):
    shared = replace(refstar_settings.optimisation, checkpointing=False, recompute=False)
    plain = _train(open_session(Phase.TWO, out="plain", optimisation=shared))
    saving = _train(open_session(Phase.TWO, out="saving"))
    assert saving.losses == plain.losses
