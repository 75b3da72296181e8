#if defined(__x86_64__)  // compiled with -march=x86-64-v4
#define KERNELS kAvx512
#define KERNELS_NAME "avx512"
#define LANES 16
#include "kernels_body.h"
#endif
