"""Findings, people and policy become a decision."""
