/* Changes of the electorate: may one slot be started twice (the default), or
   may two records of one epoch stand (RECORDS)?

   The electorate of epoch 1 is {0,1,2}. From one epoch to the next voter 2 is
   removed or voter 3, which knows nothing, is added. Lords have a term each.
   Any step may be delayed for ever; there are no clocks. What is answered is on
   disk. A node learns of an epoch that stands at any later time.

   By default any change is made as soon as it may be, and lords claim the slot.
   With RECORDS it is lords who make the changes, in their terms, and nobody
   claims anything. The macros remove one rule each; see README.md. */

#ifndef EPOCHS
#define EPOCHS 3
#endif
#define NV 4
#define bit(i)    (1 << (i))
#define has(m,i)  (((m) >> (i)) & 1)
#define count(m)  (has(m,0) + has(m,1) + has(m,2) + has(m,3))
#define most(m)   (count(m)/2 + 1)
#define enough(m) (count(m) - most(m) + 1)

byte record[5];              /* by epoch: the voters, once it stands; 0: it does not */
byte starts;
/* of each voter */
byte epoch[NV];
byte promise[NV];          /* a term */
byte whole[NV];            /* the epoch in which it is */
#ifdef RECORDS
byte stored[NV];           /* the amendment of its epoch: the voters, 0: none ... */
byte storedTerm[NV];       /* ... and its term */
#else
byte claim[NV];            /* whose claim of the slot it took; 0: none */
#endif

#ifdef OLD_EPOCHS
#define hears(i) (epoch[i] >= mine)
#else
#define hears(i) (epoch[i] == mine)
#endif
#ifdef NEXT_UNSETTLED
#define isWhole(i) true
#else
#define isWhole(i) (epoch[i] == 1 || whole[i] == epoch[i])
#endif
#ifdef OLD_TERM_STORED
#define mayStore(i) (storedTerm[i] < t)
#else
#define mayStore(i) (promise[i] == t)
#endif
#ifdef READ_BEFORE_ADOPTION
#define answers(i) (epoch[i] == e || epoch[i]+1 == e)
#else
#define answers(i) (epoch[i] == e)
#endif
#ifdef WHOLE_BY_ONE
#define told(n) (n >= 1)
#else
#define told(n) (n >= enough(record[e-1]))
#endif

inline anyVoter() { if :: i = 0 :: i = 1 :: i = 2 :: i = 3 fi }

inline change(m) {         /* what may follow the voters m */
  if
  :: has(m,2) -> next = m & 11
  :: !has(m,3) -> next = m | 8
#ifdef TWO_AT_ONCE
  :: has(m,2) && !has(m,3) -> next = (m & 11) | 8
#endif
  fi
}

inline adopt(v) {
  epoch[v]++;
#ifdef RECORDS
  stored[v] = 0; storedTerm[v] = 0
#endif
}

proctype Lord(byte t) {
  byte i; byte mine = 1; byte votes; bool reigns;
#ifdef RECORDS
  byte next; byte stores;                      /* the amendment that it proposes */
  byte best; byte bestTerm;                    /* and what it was told of */
#else
  byte acks; bool seen;
#endif
end:
  do
  :: atomic { !reigns -> anyVoter();                                   /* phase 1 */
       if
       :: has(record[mine], i) && hears(i) && promise[i] < t ->
          promise[i] = t; votes = votes | bit(i);
#ifdef RECORDS
#ifndef STORED_UNTOLD
          if :: storedTerm[i] > bestTerm -> best = stored[i]; bestTerm = storedTerm[i] :: else fi;
#endif
#else
          if :: claim[i] != 0 -> seen = true :: else fi;
#endif
          reigns = (count(votes) >= most(record[mine]));
          if :: reigns -> votes = 0 :: else fi
       :: else
       fi; i = 0 }
  :: atomic { reigns -> anyVoter();                                    /* a beat */
       if :: has(record[mine], i) && hears(i) && promise[i] < t -> promise[i] = t :: else fi; i = 0 }
  :: d_step { record[mine+1] != 0 ->                                   /* it learns of the next epoch */
       mine++;
#ifdef RECORDS
       next = 0; stores = 0; best = 0; bestTerm = 0;
#elif !defined(OLD_ACKS)
       acks = 0;
#endif
       if :: !reigns -> votes = 0 :: else fi }                         /* and never asks in this term again */
#ifdef RECORDS
  :: atomic { reigns && next == 0 && mine < EPOCHS -> if :: best != 0 -> next = best :: else -> change(record[mine]) fi }
  :: atomic { next != 0 -> anyVoter();
       if
       :: has(record[mine], i) && epoch[i] == mine && mayStore(i) && isWhole(i) && !has(stores, i) ->
          stored[i] = next; storedTerm[i] = t; stores = stores | bit(i);
#ifdef UNCHOSEN_ADOPTED
          assert(record[mine+1] == 0 || record[mine+1] == next); record[mine+1] = next;
#endif
          if
          :: count(stores) >= most(record[mine]) ->
             assert(record[mine+1] == 0 || record[mine+1] == next); record[mine+1] = next
          :: else
          fi
       :: else
       fi; i = 0 }
#else
  :: atomic { reigns && !seen -> anyVoter();                           /* phase 2 */
       if
       :: has(record[mine], i) && hears(i) && promise[i] == t && !has(acks, i) ->
          claim[i] = t; acks = acks | bit(i);
          if :: count(acks & record[mine]) >= most(record[mine]) -> starts++; assert(starts <= 1); seen = true :: else fi
       :: else
       fi; i = 0 }
#endif
  od
}

proctype Voters() {
  byte i; byte j; byte e; byte n; byte m; byte next; byte p; byte c;
end:
  do
  :: atomic { anyVoter(); if :: record[epoch[i]+1] != 0 -> adopt(i) :: else fi; i = 0 }
  :: atomic {                                  /* i merges what it, and one or two others, had in the epoch before */
       anyVoter(); e = epoch[i];
       if
       :: e > 1 && has(record[e], i) && whole[i] != e ->
          n = has(record[e-1], i); m = i;
          do
          :: !told(n) && j < NV ->
             if
             :: j != m && has(record[e-1], j) && answers(j) ->
                n++;
                if :: promise[j] > p -> p = promise[j] :: else fi;
#ifndef RECORDS
                if :: claim[j] != 0 -> c = claim[j] :: else fi
#endif
             :: true
             fi; j++
          :: else -> break
          od;
          if
          :: told(n) ->
#ifndef PROMISES_UNTAKEN
             if :: p > promise[m] -> promise[m] = p :: else fi;
#endif
#if !defined(RECORDS) && !defined(WRITES_UNTAKEN)
             if :: c != 0 && claim[m] == 0 -> claim[m] = c :: else fi;
#endif
             whole[m] = e
          :: else
          fi
       :: else
       fi; i = 0; j = 0; e = 0; n = 0; m = 0; p = 0; c = 0 }
#ifndef RECORDS
  :: atomic {                                  /* a change */
       if
       :: record[2] == 0 -> e = 1
       :: record[2] != 0 && record[3] == 0 && EPOCHS > 2 -> e = 2
       :: else
       fi;
       if
       :: e != 0 ->
          n = 0; i = 0;
          do
          :: i < NV -> if :: has(record[e], i) && epoch[i] == e && isWhole(i) -> n++ :: else fi; i++
          :: else -> break
          od;
          if :: n >= most(record[e]) -> change(record[e]); record[e+1] = next :: else fi
       :: else
       fi; i = 0; e = 0; n = 0; next = 0 }
#endif
  od
}

init {
  atomic {
    record[1] = 7;
    epoch[0] = 1; epoch[1] = 1; epoch[2] = 1; epoch[3] = 1;
    run Lord(1); run Lord(2); run Voters()
  }
}
