"""What moves a judge that should not: changed answers, references and chance, each check with its verdict."""

from judgelm.audit.audit import AuditSettings, run_audit
from judgelm.audit.checks import CHECKS, Check

__all__ = ["CHECKS", "AuditSettings", "Check", "run_audit"]
