from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from models.restorer import Phase
from restoration.dry_run import cost_table, dry_run
from restoration.refstar_config import PRESETS, read_refstar
from restoration.refstar_networks import open_networks
from restoration.refstar_session import learner_of


def test_the_cost_counts_what_really_learns(refstar_settings, tmp_path):
    cost = dry_run(refstar_settings, Phase.ONE)
    networks = open_networks(refstar_settings, Phase.ONE, weights=tmp_path)
    own = sum(p.numel() for p in learner_of(networks, Phase.ONE)[1].values())
    judging = sum(p.numel() for p in networks.discriminator.parameters())
    assert cost.trainable == own + judging
    assert cost.optimiser == 8 * (own + judging)
    assert cost.average == 4 * own
    assert cost.memory > cost.weights + cost.optimiser
    assert (cost.steps, cost.faces_a_step) == (4, 2)


def test_recomputing_costs_operations_and_saves_memory(refstar_settings):
    training = replace(refstar_settings.phase_two, batch_size=4)
    settings = replace(refstar_settings, phase_two=training)
    shared = replace(settings.optimisation, checkpointing=False)
    plain = dry_run(replace(settings, optimisation=replace(shared, recompute=False)), Phase.TWO)
    saving = dry_run(replace(settings, optimisation=shared), Phase.TWO)
    assert saving.operations > plain.operations
    assert saving.activations < plain.activations


def test_the_cycle_and_accumulated_batches_are_counted(refstar_settings):
    one = dry_run(refstar_settings, Phase.TWO)
    losses = replace(refstar_settings.losses, cycle=0.0)
    without = dry_run(replace(refstar_settings, losses=losses), Phase.TWO)
    assert one.operations > 1.5 * without.operations
    training = replace(refstar_settings.phase_two, accumulate=3)
    three = dry_run(replace(refstar_settings, phase_two=training), Phase.TWO)
    assert three.operations == 3 * one.operations
    assert three.faces_a_step == 3 * one.faces_a_step


def test_it_leaves_attention_as_it_was(refstar_settings):
    plain = functional.scaled_dot_product_attention
    dry_run(refstar_settings, Phase.THREE)
    assert functional.scaled_dot_product_attention is plain
    assert torch.empty(1).device.type == "cpu"


def test_the_tiny_preset_has_a_column_a_phase():
    settings = read_refstar(PRESETS / "tiny.yaml")
    table = cost_table([dry_run(settings, phase) for phase in (Phase.ONE, Phase.TWO)])
    assert [column.header for column in table.columns] == ["", "Phase I", "Phase II"]


@pytest.mark.slow
def test_the_papers_phase_two_fits_40_gb():
    settings = read_refstar(PRESETS / "arc2face.yaml")
    cost = dry_run(settings, Phase.TWO)
    assert settings.phase_two.batch_size == 1
    assert cost.memory < 40e9
    parts = {part.name: part for part in cost.parts}
    adapters = parts["UNet and its adapters"].parameters - 859_520_964
    assert 0 < adapters < 5e6
    assert parts["text encoder"].parameters == 123_060_480
    assert parts["UNet and its adapters"].trainable == parts["RefSel"].trainable == 0
    assert parts["ReferenceNet"].trainable > 850e6
    assert cost.optimiser == 8 * cost.trainable
