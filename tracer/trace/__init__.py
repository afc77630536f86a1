"""A recorded dialogue in memory: columns about every record, who answers whom, and what was agreed and named when."""
