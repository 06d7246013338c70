"""FastChat's files of judgements, MT-bench's `model_judgment/*.jsonl`, and judged folders: each made of the other"""

from judgelm.fastchat.reading import Imported, import_judgements, is_judgement_file
from judgelm.fastchat.writing import Exported, export_judgements

__all__ = ["Exported", "Imported", "export_judgements", "import_judgements", "is_judgement_file"]
