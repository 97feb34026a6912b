from broker.slurm.directives import read
from broker.slurm.for_nodes import node_needs


def test_the_controllers_and_their_backups_must_resolve_on_a_node():
    needs = node_needs(read("SlurmctldHost=ctl(203.0.113.2)\nSlurmctldHost=spare\n"))
    assert needs.controllers == ("ctl", "spare")


def test_folders_that_slurmd_writes_into_are_made_before_it_starts():
    needs = node_needs(read("SlurmdSpoolDir=/scratch/slurmd.%n\nSlurmdLogFile=/scratch/log/slurmd.log\n"))
    assert needs.folders == ("/scratch", "/scratch/log")


def test_what_is_not_set_is_where_slurm_has_it():
    assert node_needs(read("")).folders == ("/var/spool/slurmd",)
