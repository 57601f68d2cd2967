"""The package `limen`. The exact versions we test with are in requirements.txt, settings of tools in pyproject.toml."""

import os
from glob import glob

from setuptools import Extension, find_packages, setup

WITH_STRUCTS = (  # msgspec reads the types of what they define
    "envelope_parts", "fhir_consent", "fhir_consent_source", "fhir_criteria", "fhir_parts", "review",
)  # fmt: skip


def compiled() -> list[Extension]:
    """The pure rules as C, by mypyc, where LIMEN_COMPILED=1 asks for it: the same code, about twice as fast at HL7.

    For images of workers. In a clone that is worked on an edited rule would change nothing until it is compiled anew.
    """
    if os.environ.get("LIMEN_COMPILED") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415  needed for this alone

    left = {f"transforms/rules/{name}.py" for name in ("__init__", *WITH_STRUCTS)}
    return mypycify(["schemas/instant.py", *sorted({*glob("transforms/rules/*.py")} - left)], opt_level="3")


setup(
    name="limen",
    version="0.1.0",  # pipelines/program.py has the same
    description="The guarded threshold between a hospital's EHR and a life-science company's CRM: an Apache Beam job.",
    python_requires=">=3.11",
    packages=find_packages(include=["pipelines*", "transforms*", "schemas*", "policies*"]),
    package_data={"policies": ["**/*.yaml"]},
    ext_modules=compiled(),
    install_requires=[
        "apache-beam==2.77.*",
        "cryptography>=47",  # the first with HPKE
        "msgspec",
        "pyarrow",
        "pydantic>=2",
        "PyYAML",
        "rich",
        "SQLAlchemy>=2.1",  # the first whose PostgreSQL driver is psycopg 3
        "typer",
        "tzdata",  # zones, where the system has none
    ],
    extras_require={
        "postgres": ["psycopg[binary]"],
        "dev": [
            "duckdb",  # runs the queries that the documentation shows
            "hl7",  # an independent HL7 v2 reader, the oracle of our tests
            "hypothesis",
            "import-linter",
            "jsonschema",  # checks what a run writes against the published contracts
            "mutmut",  # make mutants
            "mypy",
            "pytest",
            "ruff",
            "setuptools",
            "types-PyYAML",
            "wheel",
        ],
    },
    entry_points={"console_scripts": ["limen = pipelines.cli:main"]},
)
