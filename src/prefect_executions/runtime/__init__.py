"""An execution from inside its flow run: `@execution`, attempts, `Run`, checkpoints, pauses."""
