"""The package `limen`. The exact versions we test with are in requirements.txt, settings of tools in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    name="limen",
    version="0.1.0",  # pipelines/program.py has the same
    description="The guarded threshold between a hospital's EHR and a life-science company's CRM: an Apache Beam job.",
    python_requires=">=3.11",
    packages=find_packages(include=["pipelines*", "transforms*", "schemas*", "policies*"]),
    package_data={"policies": ["**/*.yaml"]},
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
