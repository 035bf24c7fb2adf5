"""`engine backup`: one archive of everything that people made, and a home made of one."""

from dataset_engine.backup.archive import BackupError, BackupReport
from dataset_engine.backup.reading import restore_backup, verify_backup
from dataset_engine.backup.writing import back_up

__all__ = ["BackupError", "BackupReport", "back_up", "restore_backup", "verify_backup"]
