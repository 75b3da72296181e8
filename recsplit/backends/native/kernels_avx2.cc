#if defined(__x86_64__)  // compiled with -march=x86-64-v3
#define KERNELS kAvx2
#define KERNELS_NAME "avx2"
#define LANES 8
#include "kernels_body.h"
#endif
