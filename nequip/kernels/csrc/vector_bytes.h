// The width of vectors, and what a library built with it asks of a machine.
#pragma once

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define INSTRUCTION_SET "avx512"
#elif defined(__AVX2__)
#define VECTOR_BYTES 32
#define INSTRUCTION_SET "avx2"
#else
#define VECTOR_BYTES 16
#define INSTRUCTION_SET "generic"
#endif
