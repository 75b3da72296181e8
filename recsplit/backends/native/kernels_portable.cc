#define KERNELS kPortable
#define KERNELS_NAME "portable"
#define LANES 4
#include "kernels_body.h"
