/* Answers CPUID for the libraries of a patched onnxruntime, less what the processor is to hide.

   hidden_isa.py has replaced each `cpuid` (0F A2) of a private copy by `int3; nop` (CC 90). This
   library, preloaded, executes the instruction in the trap handler and clears feature bits of
   leaf 7 (Intel SDM, volume 2A, CPUID; AMD APM, volume 3, appendix E). HIDE_ISA says how far:
   avx2 leaves no AVX512, VNNI or AMX; avx512 leaves AVX512 F, CD, BW, DQ and VL without VNNI and
   AMX; anything else, or nothing, hides nothing. SIGTRAP and not SIGILL, because Python's
   faulthandler takes the latter. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define BIT(n) (1u << (n))

/* [subleaf][eax, ebx, ecx, edx]: what is cleared in leaf 7. */
typedef uint32_t Mask[2][4];

#define DOTS_ECX BIT(11)                               /* AVX512_VNNI */
#define DOTS_EDX (BIT(2) | BIT(3) | BIT(22) | BIT(24) | BIT(25) | BIT(23)) /* 4VNNIW 4FMAPS AMX FP16 */
#define DOTS_1_EAX (BIT(4) | BIT(5) | BIT(21) | BIT(23)) /* AVX_VNNI AVX512_BF16 AMX_FP16 AVX_IFMA */
#define DOTS_1_EDX (BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19)) /* AVX_VNNI_INT8 _INT16 AVX10 … */
#define AVX512_EBX \
  (BIT(16) | BIT(17) | BIT(21) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31))
#define AVX512_ECX (BIT(1) | BIT(6) | BIT(12) | BIT(14)) /* VBMI VBMI2 BITALG VPOPCNTDQ */

static const Mask no_dots = {{0, 0, DOTS_ECX, DOTS_EDX}, {DOTS_1_EAX, 0, 0, DOTS_1_EDX}};
static const Mask no_avx512 = {
    {0, AVX512_EBX, DOTS_ECX | AVX512_ECX, DOTS_EDX | BIT(8)}, {DOTS_1_EAX, 0, 0, DOTS_1_EDX}};

static const Mask *hidden;

static void answer(int signal_number, siginfo_t *info, void *context) {
  (void)info;
  greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  const uint8_t *next = (const uint8_t *)registers[REG_RIP];
  if (next[-1] != 0xCC || next[0] != 0x90) { /* not ours: die of it, as without this library */
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;
  }
  uint32_t leaf = (uint32_t)registers[REG_RAX], subleaf = (uint32_t)registers[REG_RCX];
  uint32_t told[4];
  __cpuid_count(leaf, subleaf, told[0], told[1], told[2], told[3]);
  if (hidden && leaf == 7 && subleaf < 2)
    for (int i = 0; i < 4; i++) told[i] &= ~(*hidden)[subleaf][i];
  registers[REG_RAX] = told[0];
  registers[REG_RBX] = told[1];
  registers[REG_RCX] = told[2];
  registers[REG_RDX] = told[3];
}

__attribute__((constructor)) static void begin(void) {
  const char *level = getenv("HIDE_ISA");
  if (level && !strcmp(level, "avx2")) hidden = &no_avx512;
  if (level && !strcmp(level, "avx512")) hidden = &no_dots;
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&action.sa_mask);
  sigaction(SIGTRAP, &action, NULL);
}
